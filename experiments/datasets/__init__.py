"""Datasets: images, videos or texts, as demonstrations and queries. One file each, found through conf/dataset/."""
