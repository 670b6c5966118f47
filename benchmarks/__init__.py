"""What this package costs, measured on real parts; see README.md beside this file."""
