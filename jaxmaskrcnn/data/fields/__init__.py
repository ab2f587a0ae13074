"""The fields of an object: its box, its mask, its polygons.

Everything else in `data/` loops over the table in `table.py` and names no field where it can help it. To
add a field (keypoints, for instance), write its file beside these, add it to the table, and add its arrays
to `structures.Targets`.
"""
