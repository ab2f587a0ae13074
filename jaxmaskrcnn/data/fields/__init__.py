"""The fields of an object: its box, its mask, its polygons, its keypoints.

Everything else in `data/` loops over the table in `table.py` and avoids naming a single field. To
add a field (a track's number, for instance), write its file beside these, add it to the table, and add
its arrays to `structures.Targets`.
"""
