"""Recurrent operators as torch's modules: which of them can be, and their weights in torch's order."""
