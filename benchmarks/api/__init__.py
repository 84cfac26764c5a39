"""What a request to the API costs, beside a plain implementation and beside what the server itself costs."""
