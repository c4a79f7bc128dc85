"""Root file systems of containers: images unpacked once, writable layers on them."""
