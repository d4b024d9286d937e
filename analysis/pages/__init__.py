"""Tables and figures -> what is read: `tables` (Markdown, LaTeX and CSV), then `page` (the HTML page)."""
