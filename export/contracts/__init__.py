"""The contracts that serving, monitoring and deploy share: frozen records, stdlib and numpy only.

Rooms: `errors` (whose fault it is), `datatypes` (wire types), `signature` (tensors of a model), `manifest` (a package),
`traffic` (which version answers), `cases` (states of a failure case), `codec` (records ↔ JSON).
"""
