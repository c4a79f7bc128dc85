"""A farm in memory: real daemons' parts over simulated machines and one simulated database."""
