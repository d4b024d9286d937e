"""Datasets: what demonstrates a task, what is asked, and how answers are scored. One file each, with its YAML in conf/.

Read `base` (what a dataset is) and `choice` (which samples demonstrate) first. Then by kind: `classification` for
images with class names (`digits`, `glyphs100`, `image_folder`, `imagenet100`), `published` with `source` for benchmarks
on the Hub, `videos` and `video_qa` for videos, `labelled_texts` for texts. `codewords` writes class names for a model
that has few words.
"""
