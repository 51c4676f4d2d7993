-- The shared tables as the contract with the neighbours has them.
CREATE TABLE users (
    id uuid PRIMARY KEY,
    email varchar NOT NULL UNIQUE,
    password_hash varchar NOT NULL,
    created_at timestamptz NOT NULL
);

CREATE TABLE videos (
    id uuid PRIMARY KEY,
    title varchar(255) NOT NULL,
    description text NOT NULL,
    created_at timestamptz NOT NULL,
    uploaded_at timestamptz NULL,
    status varchar NOT NULL DEFAULT 'CREATED',
    user_id uuid NULL REFERENCES users ON DELETE CASCADE
);

CREATE TABLE flows (
    id uuid PRIMARY KEY,
    status varchar NOT NULL DEFAULT 'CREATED',
    created_at timestamptz NOT NULL,
    uploaded_at timestamptz NULL,
    video_id uuid NULL REFERENCES videos ON DELETE CASCADE
);

CREATE TABLE upload_sessions (
    id uuid PRIMARY KEY,
    total_bytes integer NOT NULL,
    uploaded_bytes integer NOT NULL DEFAULT 0,
    flow_id uuid NULL UNIQUE REFERENCES flows ON DELETE CASCADE
);
