"""One module each; no socket, file, sleep or thread."""
