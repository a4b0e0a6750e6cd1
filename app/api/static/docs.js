// Starts the reader of the OpenAPI document; its library and style lie beside this file.
SwaggerUIBundle({ url: "/openapi.json", dom_id: "#reader", deepLinking: true, tryItOutEnabled: false, validatorUrl: null });
