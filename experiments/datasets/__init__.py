"""Datasets: images with class names, as demonstrations and queries. One file each, found through conf/dataset/."""
