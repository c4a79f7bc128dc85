"""What a daemon tells of itself: numbers for Prometheus, lines for those who read logs."""
