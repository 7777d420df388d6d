"""Functions that written files may carry along: what torch has no single call for.

They are read as text, not imported: a written file imports nothing but torch. Each may call others
of this folder, and uses the names torch, nn, F and math alone. The types are TorchScript's.
"""
