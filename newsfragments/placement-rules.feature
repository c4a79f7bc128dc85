A desktop may require or prefer nodes with a property, and be kept apart from others or together with them
(``qvd.placement.require``, ``.prefer``, ``.apart``, ``.together``); an OSF may demand a hypervisor. A node whose work
stands still for want of memory gets no desktop. ``qvd-node explain VM`` tells of all of them; see ``docs/placement.md``.
