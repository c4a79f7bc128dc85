"""The commands of C{qvd-node}, a module for each group of them."""
