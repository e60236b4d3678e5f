"""Pages for a browser: one HTML file each, with pictures and styles inside, and nothing loaded from elsewhere."""
