"""What is declared: in a source's own header, in setup.py, in pyproject.toml."""
