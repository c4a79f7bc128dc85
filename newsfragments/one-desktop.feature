One node serves desktops to unmodified QVD clients: log in, list, start, connect through NX, take over, stop. `make demo` shows it.
