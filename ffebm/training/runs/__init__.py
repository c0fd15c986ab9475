"""What a training run leaves in its folder, its record, checkpoints and models, and how it goes on."""
