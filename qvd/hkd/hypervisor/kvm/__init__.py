"""The driver C{kvm}: virtual machines by libvirt and QEMU."""
