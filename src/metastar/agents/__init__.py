"""What acts and learns values, for methods and behaviours: one file each."""
