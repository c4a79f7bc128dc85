``GET /api/v1/info`` publishes the separators of names and tenants, and the links that ``api.public.`` configures for the
login screen and the footer of panels.
