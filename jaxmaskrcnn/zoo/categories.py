"""The categories of the data sets that published models were trained on."""

from jaxmaskrcnn.structures import Category
from jaxmaskrcnn.zoo import lvis_names

# COCO's 80 classes by category id; the ids left out were never used.
COCO_CLASSES = {
    1: "person", 2: "bicycle", 3: "car", 4: "motorcycle", 5: "airplane", 6: "bus", 7: "train", 8: "truck",
    9: "boat", 10: "traffic light", 11: "fire hydrant", 13: "stop sign", 14: "parking meter", 15: "bench",
    16: "bird", 17: "cat", 18: "dog", 19: "horse", 20: "sheep", 21: "cow", 22: "elephant", 23: "bear",
    24: "zebra", 25: "giraffe", 27: "backpack", 28: "umbrella", 31: "handbag", 32: "tie", 33: "suitcase",
    34: "frisbee", 35: "skis", 36: "snowboard", 37: "sports ball", 38: "kite", 39: "baseball bat",
    40: "baseball glove", 41: "skateboard", 42: "surfboard", 43: "tennis racket", 44: "bottle",
    46: "wine glass", 47: "cup", 48: "fork", 49: "knife", 50: "spoon", 51: "bowl", 52: "banana", 53: "apple",
    54: "sandwich", 55: "orange", 56: "broccoli", 57: "carrot", 58: "hot dog", 59: "pizza", 60: "donut",
    61: "cake", 62: "chair", 63: "couch", 64: "potted plant", 65: "bed", 67: "dining table", 70: "toilet",
    72: "tv", 73: "laptop", 74: "mouse", 75: "remote", 76: "keyboard", 77: "cell phone", 78: "microwave",
    79: "oven", 80: "toaster", 81: "sink", 82: "refrigerator", 84: "book", 85: "clock", 86: "vase",
    87: "scissors", 88: "teddy bear", 89: "hair drier", 90: "toothbrush",
}  # fmt: skip

COCO_80 = tuple(Category(id, name) for id, name in COCO_CLASSES.items())
# torchvision's class index is the category id itself, so unused ids also have a class.
COCO_90 = tuple(Category(id, COCO_CLASSES.get(id, "N/A")) for id in range(1, 91))

# The one class of COCO's keypoints.
PERSON = (Category(1, "person"),)

# Cityscapes' classes with instances, by the data set's label ids; Detectron2 and MMDetection (whose
# converted json keeps these ids) both use this order.
CITYSCAPES_8 = (
    Category(24, "person"), Category(25, "rider"), Category(26, "car"), Category(27, "truck"),
    Category(28, "bus"), Category(31, "train"), Category(32, "motorcycle"), Category(33, "bicycle"),
)  # fmt: skip

# LVIS' classes, whose ids count from 1.
LVIS_V1_1203 = tuple(Category(id, name) for id, name in enumerate(lvis_names.V1, 1))
LVIS_V05_1230 = tuple(Category(id, name) for id, name in enumerate(lvis_names.V05, 1))

# Pascal VOC's classes in the order of Detectron2 (`data/datasets/pascal_voc.py`) and MMDetection. The data
# set has names only, and so the ids count from 1.
VOC_20 = tuple(
    Category(i, name)
    for i, name in enumerate(
        "aeroplane bicycle bird boat bottle bus car cat chair cow diningtable dog horse motorbike person "
        "pottedplant sheep sofa train tvmonitor".split(),
        1,
    )
)
