"""Rules between operator sets, a file per topic, each operator's newer and older side by side."""
