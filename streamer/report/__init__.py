"""The report of a session: figures as in papers, drawn from plain arrays, and the page that holds them."""
