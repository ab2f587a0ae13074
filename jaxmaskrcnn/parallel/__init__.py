"""Several processes and several devices."""
