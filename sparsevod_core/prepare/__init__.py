"""Preparation of data sets: from labels in any format to the COCO-VID JSON that training reads.

How the data flow:

    formats.py       the list of label formats, and how each is recognized in a folder
    FORMAT/          one folder per format: coco, mot, yolo, voc, cvat, imagenet_vid
      find_FORMAT      folder -> LabelSet: classes, and the videos of each split, still unread
      LabelSet.read    one video -> AnnotatedVideo: frames and boxes, and what is wrong with them
    reading/         what the formats share: frames on disk, class names, boxes, AnnotatedVideo
    conversion/      AnnotatedVideo -> COCO-VID JSON: workers, output file, journal for resuming
    labeled.py       the entry point for labels in any format; chooses the splits
    synthetic/       renders a small video set, in ImageNet VID's layout
    checks/          reports on COCO-VID files, prepared here or elsewhere

To add a format, write a folder with `find_FORMAT(root, hints, reporter) -> LabelSet` and list it
in `formats.FORMATS`. Its sources (`reading.label_set.Source`) and `LabelSet.read` go to worker
processes, so both must be picklable. A reader opens frames with `reading.media.open_media`, adds
boxes with `add_box` and ends with `finish`. Formats with one label file per frame also get the
pairing of frames and labels from `reading.label_tree`.
"""
