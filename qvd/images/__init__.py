"""Makes, checks and registers disk images: command line tools, without a reactor."""
