"""The demo: a day of an engine that manages virtual machines, on real files and processes."""
