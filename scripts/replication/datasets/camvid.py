"""CamVid (Brostow et al. 2009) in SegNet's version: 701 images of 360 x 480 pixels, whose pixels have 11 classes."""

from replication.datasets.dataset import Dataset, Task

CAMVID = Dataset(
    name="camvid",
    title="CamVid",
    task=Task(11, "mean_iou", (0.4119, 0.4251, 0.4327), (0.3071, 0.3116, 0.3072), labels_pixels=True),
    score_title="mean IoU",
    arrays=tuple(f"{split}_{kind}" for split in ("train", "validation", "test") for kind in ("images", "labels")),
    images={"train": 367, "val": 101, "test": 233},
    calibration=16,
    network="ResNetCamVid",
    program="train_segmenter",
    full_scale=(64, 100),
    credit="Brostow et al. 2009, CC BY-NC 4.0",
)
