"""The fields that an object can have."""

from jaxmaskrcnn.data.fields.boxes import Boxes
from jaxmaskrcnn.data.fields.field import Field
from jaxmaskrcnn.data.fields.keypoints import Keypoints
from jaxmaskrcnn.data.fields.masks import Masks
from jaxmaskrcnn.data.fields.polygons import Polygons

# The order in which an annotation is read: masks are drawn from polygons, and a missing box is the mask's.
FIELDS: tuple[type[Field], ...] = (Polygons, Masks, Boxes, Keypoints)

# The version of the records. It is part of the name of every directory with records, so it has to go up
# when a field is added or writes something else.
RECORD_FORMAT = 6

# The columns of a record's objects that the fields write, with their types.
COLUMNS = {name: column for field in FIELDS for name, column in field.COLUMNS.items()}
