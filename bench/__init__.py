"""Repeatable benchmarks that print one line of JSON per figure."""
