"""Look into networks: layers and operations, Grad-CAM, class selectivity."""
