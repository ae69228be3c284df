"""From folders as they come to an experiment: what belongs together, what label values are called, which size fits."""
