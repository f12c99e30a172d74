"""What the machine offers: commands, temporary files, signals, ports and HTTP."""
