"""What a trained network is: preprocessing, label space, views, weight files, Hub folder, model card."""
