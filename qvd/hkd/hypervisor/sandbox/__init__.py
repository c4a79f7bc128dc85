"""The C{sandbox} driver: bubblewrap, as root or as anybody."""
