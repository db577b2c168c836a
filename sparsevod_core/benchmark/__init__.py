"""How long things take: the model part by part, and the data beside training steps."""
