The guest agent of a virtual machine learns from its node through a virtio-serial port which VM it is, and formats and mounts the disk of its homes; it formats nothing but an empty disk.
