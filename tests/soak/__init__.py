"""Churn: what many repetitions leave behind."""
