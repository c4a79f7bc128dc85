"""QVD: Linux virtual desktops, the server side."""
