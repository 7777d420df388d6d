"""PyTorch functions that generated files carry along, each in full and only where it is used.

They are read as text, not imported: a generated file imports nothing but torch. Each function may call others of this folder, and use
`torch`, `nn`, `F` and `math`.
"""
