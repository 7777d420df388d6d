"""The version, said once: setup.cfg, the command and the files that are written read it here."""

__version__ = "0.1.0"
