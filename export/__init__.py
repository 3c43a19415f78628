"""Export: turns trained networks into packages, and packages into registry versions.

`export.contracts` holds the types that the other packages share; it needs only the standard library and numpy.
"""
