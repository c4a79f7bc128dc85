"""A whole installation on one machine, for trying QVD out."""
