"""How data sets lie on disk: one reader per layout, each giving names, images, labels and class names."""
