"""The web panel: pages for administrators, made of what the API answers. It holds no rules of its own."""
