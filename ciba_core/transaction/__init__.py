"""One authentication from the request to its end: inputs, events, states, and the step between them."""
