"""What was measured of a plan: training runs, certificates and studies, as files hold them."""
