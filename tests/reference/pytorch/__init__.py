"""Stored references made with PyTorch, and the script that makes them; see `make.py`."""
