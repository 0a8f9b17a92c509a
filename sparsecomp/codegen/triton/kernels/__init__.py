"""The Triton functions, one idea a file.

Pointers have lower case names and come first; numbers and choices are constants in upper case.
`state` is int32: the position of the first row, how many rows this step has, whether full logits
are wanted; from 8 on the token of each row. Grids have room for all rows of a tile.
Functions that may stand beside others in a launch (`beside.py`) count their programs from FIRST on.
"""
