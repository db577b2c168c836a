"""Building blocks that the label formats share: frames, boxes, class names, sets of videos."""
