"""From source to build: translating, compiling, and keeping what was built."""
